<?php
// Publishes what it is told on standard input, one {"channel": …, "message": …} a line, as a publisher in PHP does.
// The argument is the socket of Redis.

$redis = new Redis();
$redis->connect($argv[1]);
while (($line = fgets(STDIN)) !== false) {
    $order = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $receivers = $redis->publish($order['channel'], json_encode($order['message'], JSON_UNESCAPED_UNICODE));
    if ($receivers === 0) {
        fwrite(STDERR, "nobody subscribes to {$order['channel']}\n");
        exit(1);
    }
}
