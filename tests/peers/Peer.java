import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;

/** A client in Java: see peer.py. It tries the addresses of a name one after the other, as Java's own HTTP clients do. */
public class Peer {
    public static void main(String[] arguments) throws Exception {
        Exception last = null;
        for (InetAddress address : InetAddress.getAllByName(arguments[1])) {
            try (Socket socket = new Socket()) {
                socket.connect(new InetSocketAddress(address, Integer.parseInt(arguments[2])));
                System.out.println("getpeername=" + socket.getRemoteSocketAddress() + " getsockname=" + socket.getLocalSocketAddress());
                OutputStream out = socket.getOutputStream();
                out.write("GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n".getBytes());
                String answer = new String(socket.getInputStream().readAllBytes());
                System.out.print(answer.substring(answer.indexOf("\r\n\r\n") + 4));
                System.out.flush();
                return;
            } catch (Exception error) {
                last = error;
            }
        }
        throw last;
    }
}
