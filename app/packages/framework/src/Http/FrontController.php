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
        private readonly Context $context,
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
        $own = $this->own($request->runCode, $request->runType);
        if ($own === null) {
            return Response::text(404, 'The requested store is not found.');
        }
        [$store, $path] = $this->store($request->path, $own);
        $group = $this->context->group($request);
        $page = $this->pages->create(['store' => $store, 'group' => $group]);
        $base = (string) $this->configuration->ofStore($store, 'web/unsecure/base_url');
        // as Magento does where the base URL is https
        $plain = parse_url($base, PHP_URL_SCHEME) === 'https' && !$request->secure;
        if ($request->method === 'GET' && ($plain || parse_url($base, PHP_URL_HOST) !== $request->host)) {
            return Response::redirect(rtrim($base, '/') . $path, 302);
        }
        foreach ($this->routes as $pattern => $controller) {
            if (preg_match("~^$pattern$~", $path, $found)) {
                $inner = new Request($request->method, $path, array_filter($found, is_string(...), ARRAY_FILTER_USE_KEY) + $request->query, $request->form, $request->address, cacheId: $request->cacheId);
                $response = $this->objectManager->get($controller)->answer($inner, $page);
                if ($response) {
                    return $path === '/graphql' ? $response : $this->context->sealed($response, $this->context->group($request));
                }
            }
        }
        return Response::page($page->render('Shop_Catalog::missing.phtml'), 404);
    }

    /** The code of the store that the web server names, by its own code or by its website's. */
    private function own(string $code, string $type): ?string
    {
        $stores = $this->configuration->need('scopes/stores');
        if ($code === '' || $type !== 'website') {
            return isset($stores[$code ?: 'default']) ? $code ?: 'default' : null;
        }
        $group = $this->configuration->get("scopes/websites/$code/default_group_id");
        $default = array_column($this->configuration->need('scopes/groups'), 'default_store_id', 'group_id')[$group] ?? null;
        return array_column($stores, 'code', 'store_id')[$default] ?? null;
    }

    /** @return array{string, string} store code and the path behind it: /de/x is x of the store "de" */
    private function store(string $path, string $own): array
    {
        [, $first, $rest] = [...explode('/', $path, 3), '', ''];
        $stores = $this->configuration->need('scopes/stores');
        return isset($stores[$first]) && !in_array($first, ['admin', 'default'], true) ? [$first, "/$rest"] : [$own, $path];
    }
}
