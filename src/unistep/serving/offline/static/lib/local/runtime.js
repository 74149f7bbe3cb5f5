// ONNX Runtime in the browser: WebAssembly with threads, or WebGPU where it computes the same and is faster.

const FILES = new URL("../../ort/", import.meta.url).href;
const MOST_THREADS = 4; // more of them wait for each other in networks as small as these

let opened = null;

/** A graphics card that is one: not another program that pretends. */
async function hasGraphics() {
  const adapter = await self.navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function open({ asked, isolated }) {
  const wanted = asked.get("backend");
  const graphics = wanted === "webgpu" || (wanted !== "wasm" && (await hasGraphics()));
  const ort = await import(`${FILES}${graphics ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"}`);
  const threads = Number(asked.get("threads")) || Math.min(MOST_THREADS, self.navigator.hardwareConcurrency || 1);
  ort.env.wasm.wasmPaths = FILES;
  ort.env.wasm.numThreads = isolated ? threads : 1;
  ort.env.logLevel = "error";
  return new Runtime(ort, { graphics, needed: wanted === "webgpu" });
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
        if (provider === "wasm" && !tried.length) throw error;
      }
      if (this.needed && tried.at(-1)?.agrees) break;
    }
    const agreeing = tried.filter(({ agrees }) => agrees);
    if (!agreeing.length) {
      const [{ difference }] = tried;
      throw new Error(`This browser computes something else than Python did (${difference.toExponential(1)} of the largest value), so nothing is shown.`);
    }
    return agreeing.reduce((best, each) => (each.milliseconds < best.milliseconds ? each : best));
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
}
