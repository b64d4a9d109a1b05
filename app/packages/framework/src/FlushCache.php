<?php

declare(strict_types=1);

namespace Shop\Framework;

use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;

/** cache:flush: empties the cache in Redis, and the page cache in front of the shop. */
final class FlushCache extends Command
{
    public function __construct(private readonly Cache $cache, private readonly Configuration $configuration, private readonly Log $log)
    {
    }

    public function run(Input $input): int
    {
        $this->cache->flush();
        foreach ($this->configuration->get('http_cache_hosts') ?? [] as $host) {
            $this->purge("http://{$host['host']}:{$host['port']}/");
        }
        echo "Flushed cache: redis, pages\n";
        return 0;
    }

    /** A page cache that is away holds nothing old for longer than its pages live: said, not refused. */
    private function purge(string $url): void
    {
        $context = stream_context_create(['http' => ['method' => 'PURGE', 'header' => 'X-Magento-Tags-Pattern: .*', 'timeout' => 2]]);
        try {
            file_get_contents($url, false, $context);
        } catch (\ErrorException $problem) {
            $this->log->write('system', "page cache at $url: {$problem->getMessage()}");
            fwrite(STDERR, "the page cache at $url was not purged: var/log/system.log says why\n");
        }
    }
}
