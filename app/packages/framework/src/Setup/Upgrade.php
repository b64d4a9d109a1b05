<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Configuration;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Folder;
use Shop\Framework\Modules;
use Shop\Framework\ObjectManager;

/** setup:upgrade: applies what is due and records each step as it is done, so that a second run goes on. */
final class Upgrade extends Command
{
    /** @param array<string, class-string<Recurring>> $recurring */
    public function __construct(
        private readonly ObjectManager $objectManager,
        private readonly Database $database,
        private readonly ConfigurationImport $import,
        private readonly Configuration $configuration,
        private readonly Modules $modules,
        private readonly array $recurring = [],
    ) {
    }

    public function options(): array
    {
        return ['keep-generated' => false];
    }

    public function run(Input $input): int
    {
        $this->database->needInstalled();
        $this->configuration->writeModules();
        $this->configuration->cacheIdSalt();
        $this->bringUp();
        if (!$input->has('keep-generated')) {
            Folder::remove("{$this->modules->root}/generated");
        }
        return 0;
    }

    /** Brings a database to what the code wants, from wherever it is. */
    public function bringUp(): void
    {
        $this->database->prepare();
        foreach ($this->database->pending() as $patch) {
            $this->objectManager->create($patch)->apply();
            $this->database->applied($patch);
            echo "applied $patch\n";
        }
        $this->database->recordVersions();
        $this->import->import();
        foreach ($this->recurring as $step) {
            echo $this->objectManager->get($step)->install();
        }
        echo "The database fits the code.\n";
    }
}
