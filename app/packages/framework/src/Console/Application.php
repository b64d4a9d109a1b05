<?php

declare(strict_types=1);

namespace Shop\Framework\Console;

use Shop\Framework\ObjectManager;
use Shop\Framework\Refusal;

/** Finds the command by its name; the names stand in di.xml. */
final class Application
{
    /** @param array<string, class-string<Command>> $commands */
    public function __construct(private readonly ObjectManager $objectManager, private readonly array $commands)
    {
    }

    /** @param list<string> $words */
    public function run(array $words): int
    {
        $name = array_shift($words) ?? 'list';
        if (in_array($name, ['--version', '-V'], true)) {
            echo 'Shop CLI ', \Composer\InstalledVersions::getRootPackage()['pretty_version'], "\n";
            return 0;
        }
        if (in_array($name, ['list', '--help', '-h'], true)) {
            $names = array_keys($this->commands);
            sort($names);
            echo implode("\n", $names), "\n";
            return 0;
        }
        $class = $this->commands[$name] ?? throw new Refusal("bin/magento has no command $name: bin/magento list shows what it has");
        $command = $this->objectManager->get($class);
        $input = Input::parse($name, $words, $command->options());
        if ($input->all('quiet', 'q')) {
            ob_start(static fn (): string => '');
        }
        return $command->run($input);
    }
}
