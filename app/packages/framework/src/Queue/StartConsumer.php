<?php

declare(strict_types=1);

namespace Shop\Framework\Queue;

use Shop\Framework\Configuration;
use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Log;
use Shop\Framework\ObjectManager;
use Shop\Framework\Refusal;

/** queue:consumers:start NAME: works off a queue; then it ends, or waits for more where env.php says so. */
final class StartConsumer extends Command
{
    /** @param array<string, class-string<Handler>> $consumers */
    public function __construct(
        private readonly ObjectManager $objectManager,
        private readonly Configuration $configuration,
        private readonly Connection $connection,
        private readonly Log $log,
        private readonly array $consumers = [],
    ) {
    }

    public function options(): array
    {
        return ['max-messages' => true, 'single-thread' => false];
    }

    public function run(Input $input): int
    {
        $name = $input->arguments[0] ?? '';
        $class = $this->consumers[$name] ?? throw new Refusal("there is no consumer $name");
        if ($input->has('single-thread') && $this->connection->rows("SELECT GET_LOCK(CONCAT(DATABASE(), '.', ?), 0) AS mine", [$name])[0]['mine'] !== '1') {
            throw new Refusal('Consumer with the same name is running');
        }
        $waits = ($this->configuration->get('queue/consumers_wait_for_messages') ?? 1) === 1;
        for ($left = (int) ($input->all('max-messages')[0] ?? PHP_INT_MAX); $left > 0;) {
            $message = $this->connection->rows('SELECT id, body FROM queue_message WHERE topic_name = ? ORDER BY id LIMIT 1', [$name])[0] ?? null;
            if ($message) {
                try {
                    $this->objectManager->get($class)->handle(json_decode($message['body'], true, flags: JSON_THROW_ON_ERROR));
                } catch (\Throwable $problem) {
                    $this->log->write('system', "$name: message has been rejected: {$problem->getMessage()}");
                }
                $this->connection->rows('DELETE FROM queue_message WHERE id = ?', [$message['id']]);
                $left--;
            } elseif ($waits) {
                sleep(1);
            } else {
                break;
            }
        }
        return 0;
    }
}
