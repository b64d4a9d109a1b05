<?php

declare(strict_types=1);

namespace Shop\SampleData;

use Shop\Framework\Configuration;
use Shop\Framework\Setup\Recurring as Step;

/** Sample data at each upgrade, where env.php says that this shop is for testing. */
final class Recurring implements Step
{
    public function __construct(private readonly Configuration $configuration, private readonly Deploy $deploy)
    {
    }

    public function install(): string
    {
        return $this->configuration->get('application/test_data') === true ? $this->deploy->install() : '';
    }
}
