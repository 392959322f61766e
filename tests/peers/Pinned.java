import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/** Pinned FILE URL: prints the body. Its trust manager knows the one certificate in FILE, whatever the stores say. */
public class Pinned implements X509TrustManager {
    private final X509Certificate pinned;

    Pinned(X509Certificate pinned) {
        this.pinned = pinned;
    }

    public void checkServerTrusted(X509Certificate[] chain, String kind) throws CertificateException {
        if (!chain[0].equals(pinned)) {
            throw new CertificateException("not the pinned certificate");
        }
    }

    public void checkClientTrusted(X509Certificate[] chain, String kind) throws CertificateException {
        throw new CertificateException("there are no clients");
    }

    public X509Certificate[] getAcceptedIssuers() {
        return new X509Certificate[0];
    }

    public static void main(String[] arguments) throws Exception {
        X509Certificate pinned;
        try (FileInputStream file = new FileInputStream(arguments[0])) {
            pinned = (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {new Pinned(pinned)}, null);
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context).build();
        System.out.print(client.send(HttpRequest.newBuilder(URI.create(arguments[1])).build(), BodyHandlers.ofString()).body());
    }
}
