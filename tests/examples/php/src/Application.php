<?php

declare(strict_types=1);

namespace Notes;

/** The pages: the board, and nothing else. */
final class Application
{
    public function __construct(private readonly string $root)
    {
    }

    /** @param array<string, string> $form */
    public function answer(string $method, string $path, array $form): void
    {
        if ($path === '/export') {
            echo (new Export($this->root))->rows();
            return;
        }
        if ($path !== '/') {
            http_response_code(404);
            echo "<h1>No such page</h1>\n";
            return;
        }
        $notes = new Notes(Database::connect(Environment::read("$this->root/.env")));
        if ($method === 'POST') {
            $notes->add($form['text'] ?? '');
            http_response_code(303);
            header('Location: /');
            return;
        }
        echo "<!DOCTYPE html>\n<title>Notes</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n<h1>Notes</h1>\n";
        foreach ($notes->published() as $note) {
            echo "<p title=\"{$note['published_by']}\">" . htmlspecialchars($note['text']) . "</p>\n";
        }
    }
}
