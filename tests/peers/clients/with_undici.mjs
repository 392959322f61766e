// undici's fetch from its own package; its proxy agent asks for a tunnel (CONNECT) whatever goes through it.
import { createRequire } from "node:module";
import { base, proxy, say, steps } from "./steps.mjs";

const { Agent, ProxyAgent, fetch } = createRequire(`${process.env.NODETAP_NODE_MODULES}/`)("undici");
const dispatcher = proxy ? new ProxyAgent(proxy.replace("connect://", "http://")) : new Agent();
for (const { method, path, body } of steps()) {
  const answer = await fetch(base + path, { method, body, dispatcher });
  say(method, path, answer.status, [...answer.headers], Buffer.from(await answer.arrayBuffer()));
}
await dispatcher.close();
