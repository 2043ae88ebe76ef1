<?php
// Tells the browsers of a region that a video is new in its trends: publisher.php REGION ID TITLE CHANNEL

[, $region, $id, $title, $channel] = $argv;
$message = [
    'event' => 'new_trending',
    'region' => $region,
    'video_id' => $id,
    'title' => $title,
    'thumbnail' => "https://example.com/$id.jpg",
    'channel' => $channel,
    'ts' => time(),
];
if (in_array($region, ['AE', 'IL'], true)) {
    $message['rtl'] = true;
}

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1');
$redis->publish("tvs:$region", json_encode($message, JSON_UNESCAPED_UNICODE));
