<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Whether the database has what the configuration's files say: what was imported into it, and what they say now. */
final class ConfigurationHash
{
    public function __construct(private readonly Configuration $configuration, private readonly Connection $connection)
    {
    }

    public function now(): string
    {
        $sections = array_map($this->configuration->get(...), ['scopes', 'themes', 'system']);
        return hash('sha256', json_encode($sections, JSON_THROW_ON_ERROR));
    }

    /** null where nothing was imported yet */
    public function imported(): ?string
    {
        return $this->connection->rows("SELECT flag_data FROM flag WHERE flag_code = 'config_hash'")[0]['flag_data'] ?? null;
    }
}
