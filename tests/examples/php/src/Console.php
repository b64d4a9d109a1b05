<?php

declare(strict_types=1);

namespace Notes;

/** The commands that the profile names. */
final class Console
{
    /** Exit code of migrate:status when there is work. */
    private const DUE = 2;

    public function __construct(private readonly string $root)
    {
    }

    public function run(string $command): int
    {
        return match ($command) {
            'migrate:status' => $this->migrations()->due() === [] ? 0 : self::DUE,
            'migrate' => $this->migrate(),
            'queue:work' => $this->work(),
            'schedule:run' => $this->schedule(),
            default => $this->refuse($command),
        };
    }

    private function migrate(): int
    {
        $this->migrations()->apply();
        return 0;
    }

    /** Publish what waits, until systemd ends the worker. */
    private function work(): never
    {
        $notes = new Notes(Database::connect($this->environment()));
        while (true) {
            $notes->publish(basename($this->root));
            usleep(200_000);
        }
    }

    private function schedule(): int
    {
        $notes = new Notes(Database::connect($this->environment()));
        $line = count($notes->published()) . ' notes, ' . $this->environment()->get('APP_URL') . "\n";
        file_put_contents("$this->root/var/log/schedule.log", $line, FILE_APPEND);
        return 0;
    }

    private function refuse(string $command): int
    {
        fwrite(STDERR, "no command '$command': migrate:status, migrate, queue:work, schedule:run\n");
        return 1;
    }

    private function migrations(): Migrations
    {
        return new Migrations(Database::connect($this->environment()), "$this->root/migrations");
    }

    private function environment(): Environment
    {
        return Environment::read("$this->root/.env");
    }
}
