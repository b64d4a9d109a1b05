<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

use Shop\Framework\Maintenance;
use Shop\Framework\Configuration;
use Shop\Framework\ConfigurationHash;
use Shop\Framework\ObjectManager;
use Shop\Framework\Refusal;

/** Finds the controller: di.xml has a pattern of the path for each. */
final class FrontController
{
    /** @param array<string, class-string<Controller>> $routes */
    public function __construct(
        private readonly ObjectManager $objectManager,
        private readonly Configuration $configuration,
        private readonly ConfigurationHash $hash,
        private readonly Maintenance $maintenance,
        private readonly PageFactory $pages,
        private readonly array $routes = [],
    ) {
    }

    public function answer(Request $request): Response
    {
        if ($this->maintenance->active($request->address)) {
            require "{$this->configuration->root}/pub/errors/503.php";
            exit;
        }
        if (!in_array($this->hash->imported(), [null, $this->hash->now()], true)) {
            throw new Refusal('The configuration file has changed. Run app:config:import or setup:upgrade.');
        }
        [$store, $path] = $this->store($request->path);
        $page = $this->pages->create(['store' => $store]);
        foreach ($this->routes as $pattern => $controller) {
            if (preg_match("~^$pattern$~", $path, $found)) {
                $inner = new Request($request->method, $path, array_filter($found, is_string(...), ARRAY_FILTER_USE_KEY) + $request->query, $request->form, $request->address);
                $response = $this->objectManager->get($controller)->answer($inner, $page);
                if ($response) {
                    return $response;
                }
            }
        }
        return Response::page($page->render('Shop_Catalog::missing.phtml'), 404);
    }

    /** @return array{string, string} store code and the path behind it: /de/x is x of the store "de" */
    private function store(string $path): array
    {
        [, $first, $rest] = [...explode('/', $path, 3), '', ''];
        $stores = $this->configuration->need('scopes/stores');
        return isset($stores[$first]) && !in_array($first, ['admin', 'default'], true) ? [$first, "/$rest"] : ['default', $path];
    }
}
