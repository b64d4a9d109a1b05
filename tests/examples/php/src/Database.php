<?php

declare(strict_types=1);

namespace Notes;

use PDO;

/** The connection to MariaDB. */
final class Database
{
    public static function connect(Environment $environment): PDO
    {
        $source = "mysql:host={$environment->get('DB_HOST')};port={$environment->get('DB_PORT')};dbname={$environment->get('DB_DATABASE')};charset=utf8mb4";
        return new PDO($source, $environment->get('DB_USERNAME'), $environment->get('DB_PASSWORD'), [
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
        ] + array_filter([PDO::MYSQL_ATTR_SSL_CA => $environment->get('MYSQL_ATTR_SSL_CA')]));
    }
}
