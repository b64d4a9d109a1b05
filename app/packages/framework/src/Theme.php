<?php

declare(strict_types=1);

namespace Shop\Framework;

/** A theme and its parents: a file of the child hides the parent's of the same path. */
final class Theme
{
    /** @param list<string> $folders the theme's own first, its oldest ancestor's last */
    private function __construct(public readonly string $name, public readonly ?string $parent, public readonly array $folders)
    {
    }

    public static function named(string $name, Configuration $configuration): self
    {
        $themes = $configuration->get('themes') ?? throw new Refusal('app/etc/config.php: "themes" is missing');
        $folders = [];
        for ($theme = $name; $theme !== null; $theme = $themes["frontend/$theme"]['parent_id']) {
            if (!isset($themes["frontend/$theme"])) {
                throw new Refusal("theme $theme does not exist (known: " . implode(', ', array_column($themes, 'theme_path')) . ')');
            }
            $folder = "$configuration->root/app/design/frontend/$theme";
            if (in_array($folder, $folders, true)) {
                throw new Refusal("theme $name is its own ancestor");
            }
            $folders[] = $folder;
        }
        return new self($name, $themes["frontend/$name"]['parent_id'], $folders);
    }

    public function find(string $path): ?string
    {
        foreach ($this->folders as $folder) {
            if (is_file("$folder/$path")) {
                return "$folder/$path";
            }
        }
        return null;
    }
}
