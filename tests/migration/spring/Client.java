import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Prints the messages of a server: java Client.java ws://host:8080/ws REGION */
public class Client implements WebSocket.Listener {
    private static final long HEARTBEAT_MILLIS = Long.getLong("heartbeat", 30_000);
    private static final long DELAY_MAX_MILLIS = 30_000;

    private final CountDownLatch closed = new CountDownLatch(1);
    private final StringBuilder text = new StringBuilder();
    private volatile boolean alive = true;

    public static void main(String[] arguments) throws InterruptedException {
        var http = HttpClient.newHttpClient();
        var delay = 1_000L;
        while (true) {
            var client = new Client();
            try {
                var socket = http.newWebSocketBuilder()
                    .header("X-Region", arguments[1])
                    .buildAsync(URI.create(arguments[0]), client)
                    .join();
                delay = 1_000;
                client.keepAlive(socket);
            } catch (CompletionException failed) {
                if (failed.getCause() instanceof WebSocketHandshakeException refused) {
                    System.out.println("refused: " + refused.getResponse().statusCode());
                    System.exit(1);
                }
                System.out.println("cannot connect: " + failed.getCause().getClass().getSimpleName());
            }
            Thread.sleep(delay);
            delay = Math.min(delay * 2, DELAY_MAX_MILLIS);
        }
    }

    /** Returns when the connection has ended. */
    private void keepAlive(WebSocket socket) throws InterruptedException {
        while (!closed.await(HEARTBEAT_MILLIS, TimeUnit.MILLISECONDS)) {
            if (!alive) {
                socket.abort();
                return;
            }
            alive = false;
            socket.sendPing(ByteBuffer.wrap(new byte[] {1}));
        }
    }

    @Override
    public void onOpen(WebSocket socket) {
        System.out.println("connected");
        socket.request(1);
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
        text.append(part);
        if (last) {
            System.out.println(text);
            text.setLength(0);
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onPong(WebSocket socket, ByteBuffer data) {
        alive = true;
        System.out.println("alive");
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int status, String reason) {
        System.out.println("closed: " + status);
        closed.countDown();
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        System.out.println("connection lost: " + error.getClass().getSimpleName());
        closed.countDown();
    }
}
