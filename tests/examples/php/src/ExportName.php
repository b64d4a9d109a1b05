<?php

declare(strict_types=1);

namespace Notes;

/** The release that an export is from. */
final class ExportName
{
    public static function of(string $root): string
    {
        return basename(realpath($root));
    }
}
