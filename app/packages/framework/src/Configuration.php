<?php

declare(strict_types=1);

namespace Shop\Framework;

/**
 * What app/etc/config.php (repository) and app/etc/env.php (this host) say; env.php wins, and an environment variable wins over both:
 * MAGENTO_DC_A__B has a text for a/b, MAGENTO_DC__OVERRIDE a tree in JSON.
 */
final class Configuration
{
    /** @var array<string, mixed>|null */
    private ?array $values = null;

    public function __construct(public readonly string $root)
    {
    }

    /** The value at a path such as "db/connection/default", null where there is none. */
    public function get(string $path): mixed
    {
        $override = getenv('MAGENTO_DC_' . strtoupper(strtr($path, ['/' => '__'])));
        if ($override !== false) {
            return $override;
        }
        $value = $this->values ??= array_replace_recursive(
            $this->file('config.php'),
            $this->file('env.php'),
            json_decode(getenv('MAGENTO_DC__OVERRIDE') ?: '[]', true) ?? [],
        );
        foreach (explode('/', $path) as $key) {
            if (!is_array($value) || !array_key_exists($key, $value)) {
                return null;
            }
            $value = $value[$key];
        }
        return $value;
    }

    /** The value at a path that must be there. */
    public function need(string $path): mixed
    {
        if ($this->get($path) !== null) {
            return $this->get($path);
        }
        throw new Refusal(
            is_file("$this->root/app/etc/env.php")
                ? "app/etc/env.php and app/etc/config.php: neither has $path"
                : "app/etc/env.php is missing: this command needs $path from it",
        );
    }

    /** Writes a value into app/etc/env.php, which then has values only: what was computed in it is what it was now. */
    public function write(string $path, mixed $value): void
    {
        $change = $value;
        foreach (array_reverse(explode('/', $path)) as $key) {
            $change = [$key => $change];
        }
        $file = "$this->root/app/etc/env.php";
        if (!is_writable(is_file($file) ? $file : dirname($file))) {
            throw new Refusal("app/etc/env.php cannot be written, and $path is to be written into it");
        }
        file_put_contents($file, "<?php\nreturn " . var_export(array_replace_recursive($this->file('env.php'), $change), true) . ";\n");
        $this->values = null;
    }

    /** Writes the list of modules into app/etc/config.php, also where it is the same. */
    public function writeModules(): void
    {
        $file = "$this->root/app/etc/config.php";
        if (!is_writable($file)) {
            throw new Refusal('Deployment config file config.php is not writable.');
        }
        file_put_contents($file, "<?php\nreturn " . var_export($this->file('config.php'), true) . ";\n");
    }

    /** The salt of the ids under which answers to GraphQL are kept: made once, and written down. */
    public function cacheIdSalt(): string
    {
        if ($this->get('cache/graphql/id_salt') === null) {
            $this->write('cache/graphql/id_salt', bin2hex(random_bytes(16)));
        }
        return $this->get('cache/graphql/id_salt');
    }

    /** A "system" value as a store sees it. */
    public function ofStore(string $store, string $path): mixed
    {
        $website = $this->get("scopes/stores/$store/website_id");
        $code = array_column($this->get('scopes/websites') ?? [], 'code', 'website_id')[$website] ?? 'admin';
        return $this->get("system/stores/$store/$path") ?? $this->get("system/websites/$code/$path") ?? $this->get("system/default/$path");
    }

    /** @return array<string, mixed> */
    private function file(string $name): array
    {
        $path = "$this->root/app/etc/$name";
        $values = is_file($path) ? require $path : [];
        return is_array($values) ? $values : throw new Refusal("app/etc/$name does not return an array");
    }
}
