<?php

declare(strict_types=1);

namespace Shop\Framework\Queue;

/** Does what the messages of a queue ask for. */
interface Handler
{
    /** @param array<string, mixed> $message */
    public function handle(array $message): void;
}
