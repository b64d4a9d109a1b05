<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

/** A step that is done once to every database: a class in a module's Setup/Patch/Schema or Setup/Patch/Data. */
interface Patch
{
    /** @return list<class-string<Patch>> what must have been applied before */
    public static function getDependencies(): array;

    public function apply(): void;
}
