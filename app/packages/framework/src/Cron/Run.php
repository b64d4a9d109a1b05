<?php

declare(strict_types=1);

namespace Shop\Framework\Cron;

use Shop\Framework\Connection;
use Shop\Framework\Console\Background;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Log;
use Shop\Framework\ObjectManager;

/** cron:run: every job of di.xml, one run of a group at a time; as Magento's it does not ask whether there is maintenance, and leaves groups to processes that outlive it. */
final class Run extends Command
{
    /** Groups with processes of their own. */
    private const APART = ['index', 'consumers'];

    /** @param array<string, class-string<Job>> $jobs GROUP/NAME => job */
    public function __construct(
        private readonly ObjectManager $objectManager,
        private readonly Connection $connection,
        private readonly Background $background,
        private readonly Log $log,
        private readonly array $jobs = [],
    ) {
    }

    public function options(): array
    {
        return ['group' => true, 'bootstrap' => true];
    }

    public function run(Input $input): int
    {
        $groups = $input->all('group') ?: array_unique(array_map(dirname(...), array_keys($this->jobs)));
        $alone = in_array('standaloneProcessStarted=1', $input->all('bootstrap'), true);
        $failed = 0;
        foreach ($groups as $group) {
            if (in_array($group, self::APART, true) && !$alone) {
                $this->background->start('cron:run', "--group=$group", '--bootstrap=standaloneProcessStarted=1');
            } else {
                $failed |= $this->group($group);
            }
        }
        return $failed;
    }

    private function group(string $group): int
    {
        $failed = 0;
        if ($this->connection->rows("SELECT GET_LOCK(CONCAT(DATABASE(), '.cron.', ?), 0) AS mine", [$group])[0]['mine'] !== '1') {
            $this->log->write('cron', "$group skipped: another run is at work");
            return 0;
        }
        foreach (array_filter($this->jobs, static fn (string $name): bool => dirname($name) === $group, ARRAY_FILTER_USE_KEY) as $path => $job) {
            $name = basename($path);
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
