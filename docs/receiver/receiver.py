"""Takes the notifications of one target. PORT and WEBHOOK_SECRET (whsec_...) stand in the environment: python3 receiver.py"""
import base64, hashlib, hmac, os, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
assert len(KEY) >= 24, "WEBHOOK_SECRET is whsec_ and base64"
done, lock = set(), threading.Lock()  # In earnest: ids where a restart does not lose them.

def genuine(headers, body):
    id, stamp, given = (headers.get("webhook-" + name, "") for name in ("id", "timestamp", "signature"))
    if not re.fullmatch("[0-9]{1,12}", stamp) or abs(time.time() - int(stamp)) > 300:
        return False
    mac = hmac.new(KEY, f"{id}.{stamp}.".encode("latin-1") + body, hashlib.sha256).digest()
    right = b"v1," + base64.b64encode(mac)
    return any(hmac.compare_digest(right, one.encode("latin-1")) for one in given.split(" "))

class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(min(max(length, 0), 1 << 20))  # as it came, before anything parses it
        if not genuine(self.headers, body):
            return self.answer(401)
        with lock:
            id = self.headers["webhook-id"]
            if id not in done and not id.startswith("test_"):  # A test of the way here asks for nothing.
                print(id, body.decode(), flush=True)  # What you do. If it fails, answer 500.
                done.add(id)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
