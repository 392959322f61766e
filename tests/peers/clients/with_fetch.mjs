// Node's own fetch.
import { base, say, steps } from "./steps.mjs";

for (const { method, path, body } of steps()) {
  const answer = await fetch(base + path, { method, body });
  say(method, path, answer.status, [...answer.headers], Buffer.from(await answer.arrayBuffer()));
}
