<?php

declare(strict_types=1);

namespace Shop\Framework\Cron;

use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Log;
use Shop\Framework\ObjectManager;

/** cron:run: every job of di.xml, one run at a time; as Magento's it does not ask whether there is maintenance. */
final class Run extends Command
{
    /** @param array<string, class-string<Job>> $jobs */
    public function __construct(
        private readonly ObjectManager $objectManager,
        private readonly Connection $connection,
        private readonly Log $log,
        private readonly array $jobs = [],
    ) {
    }

    public function run(Input $input): int
    {
        $failed = 0;
        if ($this->connection->rows("SELECT GET_LOCK(CONCAT(DATABASE(), '.cron'), 0) AS mine")[0]['mine'] !== '1') {
            $this->log->write('cron', 'skipped: another run is at work');
            return 0;
        }
        foreach ($this->jobs as $name => $job) {
            try {
                $this->log->write('cron', "$name: " . $this->objectManager->get($job)->work());
            } catch (\Throwable $problem) {
                $failed = 1;
                $this->log->write('cron', "$name failed: {$problem->getMessage()}");
                fwrite(STDERR, "$name failed: {$problem->getMessage()}\n");
            }
        }
        return $failed;
    }
}
