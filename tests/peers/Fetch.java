import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Fetch URL: prints the body. */
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        System.out.print(client.send(HttpRequest.newBuilder(URI.create(arguments[0])).build(), BodyHandlers.ofString()).body());
    }
}
