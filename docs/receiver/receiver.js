// Takes the notifications of one target. PORT and WEBHOOK_SECRET (whsec_...) stand in the environment: node receiver.js
const { createHmac, timingSafeEqual } = require("node:crypto");

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
if (key.length < 24) throw new Error("WEBHOOK_SECRET is whsec_ and base64");
const done = new Set(); // In earnest: ids where a restart does not lose them.

function genuine(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": stamp = "", "webhook-signature": given = "" } = headers;
  if (!/^[0-9]{1,12}$/.test(stamp) || Math.abs(Date.now() / 1000 - stamp) > 300) return false;
  const right = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${stamp}.`).update(body).digest("base64"));
  const same = (one) => one.length === right.length && timingSafeEqual(one, right);
  return given.split(" ").some((one) => same(Buffer.from(one)));
}

require("node:http").createServer((request, response) => {
  const parts = [];
  let length = 0;
  request.on("data", (part) => ((length += part.length) > 1 << 20 ? request.destroy() : parts.push(part)));
  request.on("end", () => {
    const body = Buffer.concat(parts); // as it came, before anything parses it
    const id = request.headers["webhook-id"];
    if (!genuine(request.headers, body)) return response.writeHead(401).end();
    if (!done.has(id) && !id.startsWith("test_")) { // A test of the way here asks for nothing.
      console.log(id, body.toString()); // What you do. If it fails, answer 500.
      done.add(id);
    }
    response.writeHead(204).end();
  });
}).listen(process.env.PORT, "127.0.0.1");
