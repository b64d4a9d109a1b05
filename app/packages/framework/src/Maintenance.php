<?php

declare(strict_types=1);

namespace Shop\Framework;

use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;

/** maintenance:enable, :disable and :status; the flag is a file, so that it works without any service. */
final class Maintenance extends Command
{
    public function __construct(private readonly Configuration $configuration)
    {
    }

    public function active(string $address = ''): bool
    {
        $exempt = $this->file('ip');
        return is_file($this->file('flag')) && !in_array($address, is_file($exempt) ? explode(',', trim((string) file_get_contents($exempt))) : [], true);
    }

    public function options(): array
    {
        return ['ip' => true];
    }

    public function run(Input $input): int
    {
        if ($input->has('ip')) {
            file_put_contents($this->file('ip'), implode(',', $input->all('ip'))); // not renamed into place: it may be a link
        }
        if ($input->command === 'maintenance:enable') {
            Folder::write($this->file('flag'), '');
        } elseif ($input->command === 'maintenance:disable' && is_file($this->file('flag'))) {
            unlink($this->file('flag'));
        }
        echo 'Status: maintenance mode is ', $this->active() ? 'active' : 'not active', "\n";
        return 0;
    }

    private function file(string $kind): string
    {
        return "{$this->configuration->root}/var/.maintenance.$kind";
    }
}
