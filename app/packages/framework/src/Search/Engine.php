<?php

declare(strict_types=1);

namespace Shop\Framework\Search;

use Shop\Framework\Configuration;
use Shop\Framework\Refusal;

/** The search engine: an index of products behind an alias, as OpenSearch's REST API has them. */
final class Engine
{
    public function __construct(private readonly Configuration $configuration)
    {
    }

    public function ping(): void
    {
        $this->ask('GET', '/');
    }

    /**
     * Makes a new index, then lets the alias point to it: whoever asks meanwhile gets the old one.
     *
     * @param array<int, array<string, mixed>> $documents by id
     */
    public function replace(string $alias, array $documents): void
    {
        $alias = $this->name($alias);
        $index = $alias . '_v' . (int) (microtime(true) * 1000);
        $this->ask('PUT', "/$index", json_encode(['settings' => ['index' => ['number_of_shards' => 1]]], JSON_THROW_ON_ERROR));
        $this->ask('PUT', "/$index/_mapping", json_encode(['properties' => ['name' => ['type' => 'text'], 'category_ids' => ['type' => 'integer']]], JSON_THROW_ON_ERROR));
        $lines = [];
        foreach ($documents as $id => $document) {
            $lines[] = json_encode(['index' => ['_index' => $index, '_id' => (string) $id]], JSON_THROW_ON_ERROR);
            $lines[] = json_encode($document, JSON_THROW_ON_ERROR);
        }
        if ($lines) {
            $this->ask('POST', '/_bulk?refresh=true', implode("\n", $lines) . "\n");
        }
        $old = array_keys($this->ask('GET', "/_alias/$alias", missing: []));
        $actions = array_map(static fn (string $each): array => ['remove' => ['index' => $each, 'alias' => $alias]], $old);
        $this->ask('POST', '/_aliases', json_encode(['actions' => [...$actions, ['add' => ['index' => $index, 'alias' => $alias]]]], JSON_THROW_ON_ERROR));
        foreach ($old as $each) {
            $this->ask('DELETE', "/$each");
        }
    }

    /** @return list<int> the ids of a category's products, the best first */
    public function ofCategory(string $alias, int $category): array
    {
        $query = ['bool' => ['must' => [['term' => ['category_ids' => $category]], ['terms' => ['visibility' => ['2', '4']]]]]];
        $found = $this->ask('POST', "/{$this->name($alias)}/_search", json_encode(['from' => 0, 'size' => 10000, 'sort' => [['name_sort' => ['order' => 'asc']]], 'query' => $query], JSON_THROW_ON_ERROR));
        return array_map(static fn (array $hit): int => (int) $hit['_id'], $found['hits']['hits']);
    }

    private function name(string $alias): string
    {
        return $this->configuration->need('system/default/catalog/search/opensearch_index_prefix') . "_$alias";
    }

    /**
     * @param array<string, mixed>|null $missing what counts as the answer where there is no such thing
     * @return array<string, mixed>
     */
    private function ask(string $method, string $path, string $body = '', ?array $missing = null): array
    {
        $settings = $this->configuration->need('system/default/catalog/search');
        $host = $settings['opensearch_server_hostname'];
        $url = (str_contains($host, '://') ? $host : "http://$host") . ":{$settings['opensearch_server_port']}$path";
        $headers = ['Content-Type: application/json'];
        if ($settings['opensearch_enable_auth'] ?? false) {
            $headers[] = 'Authorization: Basic ' . base64_encode("{$settings['opensearch_username']}:{$settings['opensearch_password']}");
        }
        $context = stream_context_create(['http' => ['method' => $method, 'header' => implode("\r\n", $headers), 'content' => $body, 'timeout' => 5, 'ignore_errors' => true]]);
        try {
            $answer = (string) file_get_contents($url, false, $context);
        } catch (\ErrorException) {
            throw new Refusal("the search engine at $host:{$settings['opensearch_server_port']} does not answer");
        }
        $status = (int) (explode(' ', $http_response_header[0])[1] ?? 0);
        if ($status === 404 && $missing !== null) {
            return $missing;
        }
        if ($status !== 200) {
            throw new Refusal("the search engine answers $method $path with $status: " . substr($answer, 0, 200));
        }
        return json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
    }
}
