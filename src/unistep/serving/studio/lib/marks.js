// Where files come from: an XMP packet that names the IPTC's digital source type, the model, seed and condition, as
// "unistep verify" and other programs read it.

const VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/";
/** What a model made of nothing else, and what it changed or somebody painted over. */
export const TRAINED = "trainedAlgorithmicMedia";
export const COMPOSITE = "compositeWithTrainedAlgorithmicMedia";
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\t": "&#9;", "\r": "&#13;" };
const escaped = (text) =>
  String(text)
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "")
    .replace(/[&<>"\n\t\r]/g, (letter) => ENTITIES[letter]);

/** The packet of what a model made, or had a part in. */
export function packet({ model, hash, seed, condition, source = TRAINED }) {
  const known = Object.entries(condition ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const properties = {
    "Iptc4xmpExt:DigitalSourceType": VOCABULARY + source,
    "xmp:CreatorTool": "Unistep",
    "unistep:Model": model,
    "unistep:ModelHash": hash && `sha256:${hash}`,
    "unistep:Seed": seed,
    "unistep:Condition": known.length ? JSON.stringify(Object.fromEntries(known)) : "",
  };
  const written = Object.entries(properties)
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([name, value]) => `${name}="${escaped(value)}"`);
  return new TextEncoder().encode(
    `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:unistep="urn:unistep:provenance/"
   ${written.join("\n   ")}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`,
  );
}

const CHECKS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

const checksum = (bytes) => ~bytes.reduce((value, byte) => (value >>> 8) ^ CHECKS[(value ^ byte) & 255], -1) >>> 0;

const letters = (text) => [...text].map((letter) => letter.charCodeAt(0));

/** A PNG with the packet in a text chunk after its header. */
function png(content, xmp) {
  const end = 33; // signature of 8 bytes, header of 25
  const body = Uint8Array.from([...letters("iTXtXML:com.adobe.xmp"), 0, 0, 0, 0, 0, ...xmp]);
  const frame = new DataView(new ArrayBuffer(8));
  frame.setUint32(0, body.length - 4);
  frame.setUint32(4, checksum(body));
  return [content.subarray(0, end), new Uint8Array(frame.buffer, 0, 4), body, new Uint8Array(frame.buffer, 4), content.subarray(end)];
}

/** A WAV file with the packet in a chunk at its end. */
function riff(content, xmp) {
  const head = new DataView(content.slice(0, 12).buffer);
  const chunk = new DataView(new ArrayBuffer(8));
  letters("_PMX").forEach((letter, at) => chunk.setUint8(at, letter));
  chunk.setUint32(4, xmp.length, true);
  const odd = xmp.length % 2;
  head.setUint32(4, content.length - 8 + 8 + xmp.length + odd, true);
  return [new Uint8Array(head.buffer), content.subarray(12), new Uint8Array(chunk.buffer), xmp, new Uint8Array(odd)];
}

/** A GIF with the packet before its end; the numbers after it lead back any program that takes it for blocks of data. */
function gif(content, xmp) {
  const tail = Uint8Array.from([1, ...Array.from({ length: 256 }, (_, at) => 255 - at), 0]);
  const head = Uint8Array.from([0x21, 0xff, 11, ...letters("XMP DataXMP")]);
  return [content.subarray(0, -1), head, xmp, tail, content.subarray(-1)];
}

const WRITERS = { "image/png": png, "image/gif": gif, "audio/wav": riff };

/** What a file says that it is, `TRAINED` or `COMPOSITE`; null where it says neither. */
export async function sourceOf(blob) {
  const text = new TextDecoder("latin1").decode(await blob.arrayBuffer());
  const [, found] = /digitalsourcetype\/(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia)\b/.exec(text) ?? [];
  return found ?? null;
}

/** A file with the packet of what a model made: `about` has its name, and hash, seed, condition and source where they are known. */
export async function marked(blob, about) {
  const content = new Uint8Array(await blob.arrayBuffer());
  return new Blob(WRITERS[blob.type](content, packet(about)), { type: blob.type });
}
