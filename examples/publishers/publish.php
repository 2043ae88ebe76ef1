<?php
// Publishes an alert by a signed webhook, with nothing but PHP.
//
//   WEBHOOK_URL=https://…/webhook WEBHOOK_SECRET=whsec_… php publish.php PL v1 "A title"

const ATTEMPTS = 3;
// Seconds that an attempt may take, and between two.
const ANSWER_MAX = 10;
const PAUSE = 1;

/** The headers of a request, as https://www.standardwebhooks.com says. */
function signed(string $body, string $id, string $secret): array
{
    $at = time();
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $signature = base64_encode(hash_hmac('sha256', "$id.$at.$body", $key, true));
    return ["webhook-id: $id", "webhook-timestamp: $at", "webhook-signature: v1,$signature"];
}

/** One attempt: status and body, or the status 0 where nobody answered. */
function post(string $url, array $headers, string $body): array
{
    $headers[] = 'content-type: application/json';
    $http = ['method' => 'POST', 'header' => $headers, 'content' => $body, 'timeout' => ANSWER_MAX];
    // The body of an error says what was wrong.
    $http['ignore_errors'] = true;
    $answer = @fopen($url, 'r', false, stream_context_create(['http' => $http]));
    if ($answer === false) {
        return [0, "no answer from $url"];
    }
    [$status] = stream_get_meta_data($answer)['wrapper_data'];
    return [(int) explode(' ', $status)[1], stream_get_contents($answer)];
}

if ($argc !== 4 || !getenv('WEBHOOK_URL') || !getenv('WEBHOOK_SECRET')) {
    fwrite(STDERR, "usage: WEBHOOK_URL=https://… WEBHOOK_SECRET=whsec_… php publish.php REGION VIDEO TITLE\n");
    exit(2);
}
[, $region, $video, $title] = $argv;
$alert = ['region' => $region, 'video' => ['id' => $video, 'title' => $title, 'thumbnail' => '', 'score' => 97]];
$body = json_encode($alert, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
// The same for all attempts: it is published once, whatever gets lost.
$id = 'msg_' . bin2hex(random_bytes(16));
for ($attempt = 1; ; $attempt++) {
    [$status, $answer] = post(getenv('WEBHOOK_URL'), signed($body, $id, getenv('WEBHOOK_SECRET')), $body);
    $again = $status === 0 || $status === 429 || $status >= 500;
    if (!$again || $attempt === ATTEMPTS) {
        break;
    }
    sleep(PAUSE);
}
if ($status !== 200) {
    fwrite(STDERR, "not published ($status): $answer\n");
    exit(1);
}
echo $answer, "\n";
