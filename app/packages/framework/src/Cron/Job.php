<?php

declare(strict_types=1);

namespace Shop\Framework\Cron;

/** Something that cron:run does each time. */
interface Job
{
    /** @return string what was done, for the log */
    public function work(): string;
}
