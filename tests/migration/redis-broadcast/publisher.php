<?php
// The cron job: tells Redis which videos are new in the trends. Reads them from standard input, one JSON object a line.

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1');

while (($line = fgets(STDIN)) !== false) {
    $video = json_decode($line, true);
    $redis->publish('topvideohub:trending', json_encode([
        'event' => 'new_trending',
        'region' => $video['region'],
        'video_id' => $video['id'],
        'title' => $video['title'],
        'thumbnail' => $video['thumbnail'],
        'channel' => $video['channel'],
        'ts' => time(),
    ], JSON_UNESCAPED_UNICODE));
}
