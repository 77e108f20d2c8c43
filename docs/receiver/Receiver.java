// Takes the notifications of one target. PORT and WEBHOOK_SECRET (whsec_...) stand in the environment: java Receiver.java
import com.sun.net.httpserver.*;
import java.net.InetSocketAddress;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import static java.nio.charset.StandardCharsets.*;

public class Receiver {
    static final byte[] KEY = Base64.getDecoder().decode(System.getenv("WEBHOOK_SECRET").replaceFirst("^whsec_", ""));
    static final Set<String> done = new HashSet<>(); // In earnest: ids where a restart does not lose them.

    static boolean genuine(Headers headers, byte[] body) throws Exception {
        String id = headers.getFirst("webhook-id"), stamp = headers.getFirst("webhook-timestamp"), given = headers.getFirst("webhook-signature");
        if (id == null || stamp == null || given == null || !stamp.matches("[0-9]{1,12}")) return false;
        if (Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(stamp)) > 300) return false;
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(KEY, "HmacSHA256"));
        mac.update((id + "." + stamp + ".").getBytes(ISO_8859_1));
        byte[] right = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(ISO_8859_1);
        return Arrays.stream(given.split(" ")).anyMatch(one -> MessageDigest.isEqual(right, one.getBytes(ISO_8859_1)));
    }

    static int take(HttpExchange call) throws Exception {
        byte[] body = call.getRequestBody().readNBytes(1 << 20); // as it came, before anything parses it
        if (!genuine(call.getRequestHeaders(), body)) return 401;
        String id = call.getRequestHeaders().getFirst("webhook-id");
        synchronized (done) {
            if (!done.contains(id) && !id.startsWith("test_")) { // A test of the way here asks for nothing.
                System.out.println(id + " " + new String(body, UTF_8)); // What you do. If it fails, answer 500.
                done.add(id);
            }
        }
        return 204;
    }

    public static void main(String[] args) throws Exception {
        if (KEY.length < 24) throw new Exception("WEBHOOK_SECRET is whsec_ and base64");
        System.setProperty("sun.net.httpserver.maxReqTime", "10");
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", call -> {
            int status = 500;
            try { status = take(call); } catch (Exception e) { e.printStackTrace(); }
            call.sendResponseHeaders(status, -1);
            call.close();
        });
        server.start();
    }
}
