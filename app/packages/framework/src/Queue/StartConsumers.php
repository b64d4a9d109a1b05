<?php

declare(strict_types=1);

namespace Shop\Framework\Queue;

use Shop\Framework\Connection;
use Shop\Framework\Console\Background;
use Shop\Framework\Cron\Job;

/** consumers_runner: starts the consumer of each queue that has messages, unless it runs. */
final class StartConsumers implements Job
{
    public function __construct(private readonly Connection $connection, private readonly Background $background)
    {
    }

    public function work(): string
    {
        $waiting = $this->connection->rows("SELECT DISTINCT topic_name FROM queue_message WHERE IS_FREE_LOCK(CONCAT(DATABASE(), '.', topic_name))");
        foreach ($waiting as ['topic_name' => $name]) {
            $this->background->start('queue:consumers:start', $name, '--single-thread', '--max-messages=10000');
        }
        return sprintf('%d consumers started', count($waiting));
    }
}
