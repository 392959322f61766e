// Java's two clients: `httpclient` (java.net.http, HTTP/1.1), `upgrading` (the same, which asks for h2c), and
// `urlconnection` (the older one, which knows SOCKS). After that the same arguments and lines as steps.py.
import java.io.InputStream;
import java.net.*;
import java.net.http.*;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.*;

class Client {
    static final Set<String> HOP = Set.of("connection", "keep-alive", "proxy-connection", "transfer-encoding", "via", "te",
            "trailer", "upgrade");

    static void say(String step, int status, Map<String, List<String>> headers, byte[] content) throws Exception {
        var kept = new TreeSet<String>();
        headers.forEach((name, values) -> values.forEach(value -> {
            if (name != null && !name.startsWith(":") && !HOP.contains(name.toLowerCase()))
                kept.add(name.toLowerCase() + ": " + value);
        }));
        var digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        var words = step.split(" ");
        var line = new StringJoiner(" | ");
        line.add(words[0] + " " + words[1] + " " + status + " " + content.length + " " + digest);
        kept.forEach(line::add);
        System.out.println(line);
    }

    static byte[] body(String[] words) {
        if (words.length < 3) return null;
        var bytes = new byte[Integer.parseInt(words[2])];
        for (int index = 0; index < bytes.length; index++) bytes[index] = (byte) (index % 251);
        return bytes;
    }

    static void httpclient(HttpClient.Version version, String base, URI proxy, List<String> steps) throws Exception {
        var builder = HttpClient.newBuilder().version(version).followRedirects(HttpClient.Redirect.NORMAL);
        if (proxy != null)
            builder.proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
        var client = builder.build();
        for (var step : steps) {
            var words = step.split(" ");
            var body = body(words);
            var publisher = body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body);
            var request = HttpRequest.newBuilder(URI.create(base + words[1])).method(words[0], publisher).build();
            var answer = client.send(request, BodyHandlers.ofByteArray());
            say(step, answer.statusCode(), answer.headers().map(), answer.body());
        }
    }

    static void urlconnection(String base, URI proxy, List<String> steps) throws Exception {
        var by = Proxy.NO_PROXY;
        if (proxy != null)
            by = new Proxy(proxy.getScheme().startsWith("socks") ? Proxy.Type.SOCKS : Proxy.Type.HTTP,
                    new InetSocketAddress(proxy.getHost(), proxy.getPort()));
        for (var step : steps) {
            var words = step.split(" ");
            var body = body(words);
            var connection = (HttpURLConnection) new URL(base + words[1]).openConnection(by);
            connection.setRequestMethod(words[0]);
            if (body != null) {
                connection.setDoOutput(true);
                connection.setFixedLengthStreamingMode(body.length);
                connection.getOutputStream().write(body);
            }
            int status = connection.getResponseCode();
            try (InputStream stream = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
                var content = stream == null ? new byte[0] : stream.readAllBytes();
                say(step, status, connection.getHeaderFields(), content);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        var proxy = arguments[2].equals("-") ? null : URI.create(arguments[2]);
        var steps = Arrays.asList(arguments).subList(3, arguments.length);
        switch (arguments[0]) {
            case "httpclient" -> httpclient(HttpClient.Version.HTTP_1_1, arguments[1], proxy, steps);
            case "upgrading" -> httpclient(HttpClient.Version.HTTP_2, arguments[1], proxy, steps);
            default -> urlconnection(arguments[1], proxy, steps);
        }
        System.exit(0);
    }
}
