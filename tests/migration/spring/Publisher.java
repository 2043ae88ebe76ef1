import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.UUID;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Notifies the clients of a region: java Publisher.java http://host:8080/notify REGION TEXT */
public class Publisher {
    public static void main(String[] arguments) throws IOException, InterruptedException, GeneralSecurityException {
        // Changed: was {"type":"alert","text":"%s"}.
        var body = """
            {"event":"new_trending","region":"%s","video_id":"%s","title":"%s","thumbnail":""}"""
            .formatted(arguments[1], UUID.randomUUID(), arguments[2]);
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .timeout(Duration.ofSeconds(3))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body));
        // Changed: in an account who publishes is asked for a signature.
        var secret = System.getenv("WEBHOOK_SECRET");
        if (secret != null) {
            sign(request, body, secret);
        }
        var response = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.discarding());
        if (response.statusCode() != 200) {
            System.out.println("not notified: " + response.statusCode());
            System.exit(1);
        }
    }

    // Changed: this method is new. https://www.standardwebhooks.com
    private static void sign(HttpRequest.Builder request, String body, String secret) throws GeneralSecurityException {
        var id = UUID.randomUUID().toString();
        var now = Long.toString(Instant.now().getEpochSecond());
        var mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret.replace("whsec_", "")), "HmacSHA256"));
        var signed = mac.doFinal((id + "." + now + "." + body).getBytes(StandardCharsets.UTF_8));
        request.header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", "v1," + Base64.getEncoder().encodeToString(signed));
    }
}
