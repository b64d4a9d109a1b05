<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Values that can be lost at any time. */
interface Cache
{
    /** @param \Closure(): mixed $make */
    public function remember(string $key, int $seconds, \Closure $make): mixed;

    public function flush(): void;
}
