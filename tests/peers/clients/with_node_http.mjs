// Node's http module; SOCKS by socks-proxy-agent.
import http from "node:http";
import { createRequire } from "node:module";
import { base, proxy, say, steps } from "./steps.mjs";

function agent() {
  if (!proxy) return new http.Agent({ keepAlive: true });
  const { SocksProxyAgent } = createRequire(`${process.env.NODETAP_NODE_MODULES}/`)("socks-proxy-agent");
  return new SocksProxyAgent(proxy, { keepAlive: true });
}

const kept = agent();
for (const { method, path, body } of steps()) {
  const answer = await new Promise((resolve, reject) => {
    const headers = body ? { "content-length": body.length } : {};
    const request = http.request(base + path, { method, agent: kept, headers }, resolve);
    request.on("error", reject).end(body);
  });
  const parts = [];
  for await (const part of answer) parts.push(part);
  const pairs = (flat) => flat.flatMap((name, index) => (index % 2 ? [] : [[name, flat[index + 1]]]));
  const headers = [...pairs(answer.rawHeaders), ...pairs(answer.rawTrailers)];
  say(method, path, answer.statusCode, headers, Buffer.concat(parts));
}
kept.destroy();
