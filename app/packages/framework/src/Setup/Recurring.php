<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

/** A step that every setup:upgrade takes again at its end; di.xml names it. */
interface Recurring
{
    /** @return string what was done, empty for nothing */
    public function install(): string;
}
