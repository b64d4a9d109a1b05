<?php

declare(strict_types=1);

namespace Shop\Framework;

/** What is wrong, in one sentence; everything else that is thrown is a bug. */
final class Refusal extends \RuntimeException
{
}
