// The same as steps.py, for Node.
import { createHash } from "node:crypto";

const HOP = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "via", "te", "trailer", "upgrade"];
export const base = process.argv[2];
export const proxy = process.argv[3] === "-" ? undefined : process.argv[3];

export function* steps() {
  for (const step of process.argv.slice(4)) {
    const [method, path, size] = step.split(" ");
    const body = size === undefined ? undefined : Buffer.from(Array.from({ length: Number(size) }, (_, index) => index % 251));
    yield { method, path, body };
  }
}

// `headers`: pairs.
export function say(method, path, status, headers, content) {
  const kept = headers.map(([name, value]) => [name.toLowerCase(), value]).filter(([name]) => !HOP.includes(name));
  const digest = createHash("sha256").update(content).digest("hex");
  const lines = kept.map(([name, value]) => `${name}: ${value}`).sort();
  console.log([`${method} ${path} ${status} ${content.length} ${digest}`, ...lines].join(" | "));
}
