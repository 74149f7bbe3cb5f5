// ONNX Runtime in the browser: WebAssembly with threads, or WebGPU where it computes the same and is faster.

const FILES = new URL("../../ort/", import.meta.url).href;
const MOST_THREADS = 4; // more of them wait for each other in networks as small as these

/** What went wrong in a line; where ONNX Runtime does not start at all, only another worker can try again. */
function explained(error) {
  console.error(error); // which can be a page long
  const fatal = /no available backend/.test(String(error?.message ?? error));
  const what = fatal ? "ONNX Runtime does not start: a file of ort/ is damaged" : "The model cannot be opened: its file is damaged";
  return Object.assign(new Error(`${what}, or memory is short.`), { fatal });
}

const absent = (name) => Object.assign(new Error(`ort/${name} is missing: copy the whole folder.`), { fatal: true });

let opened = null;

/** A graphics card that is one: not another program that pretends. */
async function hasGraphics() {
  const adapter = await self.navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

const bring = (name) => import(new URL(name, FILES).href);

async function open({ asked, isolated }) {
  const wanted = asked.get("backend");
  const graphics = wanted === "webgpu" || (wanted !== "wasm" && (await hasGraphics()));
  const both = graphics ? await bring("ort.webgpu.min.mjs").catch(() => null) : null; // exports may leave it out
  const ort = both ?? (await bring("ort.wasm.min.mjs").catch(() => Promise.reject(absent("ort.wasm.min.mjs"))));
  const threads = Math.max(1, Number(asked.get("threads")) || Math.min(MOST_THREADS, self.navigator.hardwareConcurrency || 1));
  ort.env.wasm.wasmPaths = FILES;
  ort.env.wasm.numThreads = isolated ? threads : 1;
  ort.env.logLevel = "error";
  return new Runtime(ort, { graphics: both !== null, needed: wanted === "webgpu" });
}

export function openRuntime(options) {
  opened ??= open(options);
  return opened;
}

class Runtime {
  constructor(ort, { graphics, needed }) {
    Object.assign(this, { ort, graphics, needed });
  }

  get threads() {
    return this.ort.env.wasm.numThreads;
  }

  /** The fastest session of a file among those that pass the trial: `{run, where, milliseconds, difference}`. */
  async session(bytes, trial) {
    const tried = [];
    for (const provider of this.graphics ? ["webgpu", "wasm"] : ["wasm"]) {
      try {
        const session = new Session(this.ort, await this.ort.InferenceSession.create(bytes, { executionProviders: [provider] }));
        const found = trial ? await trial(session) : { milliseconds: 0, difference: 0, agrees: true };
        tried.push(Object.assign(session, found, { provider, where: this.name(provider) }));
      } catch (error) {
        if (provider === "wasm" && !tried.length) throw explained(error);
      }
      if (this.needed && tried.at(-1)?.agrees) break;
    }
    const agreeing = tried.filter(({ agrees }) => agrees);
    const best = agreeing.reduce((first, each) => (each.milliseconds < first.milliseconds ? each : first), agreeing[0]);
    await Promise.all(tried.filter((each) => each !== best).map((each) => each.close()));
    if (!best) {
      const [{ difference }] = tried;
      throw new Error(`This browser computes something else than Python did (${difference.toExponential(1)} of the largest value), so nothing is shown.`);
    }
    return best;
  }

  name(provider) {
    if (provider === "webgpu") return "WebGPU";
    return `WebAssembly, ${this.threads} thread${this.threads === 1 ? "" : "s"}`;
  }
}

class Session {
  constructor(ort, session) {
    Object.assign(this, { ort, session });
  }

  /** The outputs for inputs `{name: {type, data, dims}}`, in the same form. */
  async run(feeds) {
    const tensors = Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new this.ort.Tensor(type, data, dims)]);
    return this.session.run(Object.fromEntries(tensors));
  }

  /** Gives its memory back. */
  close() {
    return this.session.release();
  }
}
