<?php
return [
    'modules' => [
        'Shop_Catalog' => 1,
        'Shop_Checkout' => 1,
        'Shop_SampleData' => 1,
    ],
    'scopes' => [
        'websites' => [
            'admin' => ['website_id' => '0', 'code' => 'admin', 'name' => 'Admin', 'default_group_id' => '0'],
            'base' => ['website_id' => '1', 'code' => 'base', 'name' => 'Shop', 'default_group_id' => '1', 'is_default' => '1'],
            'overseas' => ['website_id' => '2', 'code' => 'overseas', 'name' => 'Overseas', 'default_group_id' => '2'],
        ],
        'groups' => [
            ['group_id' => '0', 'website_id' => '0', 'code' => 'default', 'name' => 'Default', 'default_store_id' => '0'],
            ['group_id' => '1', 'website_id' => '1', 'code' => 'shop', 'name' => 'Shop', 'default_store_id' => '1'],
            ['group_id' => '2', 'website_id' => '2', 'code' => 'overseas', 'name' => 'Overseas', 'default_store_id' => '3'],
        ],
        'stores' => [
            'admin' => ['store_id' => '0', 'code' => 'admin', 'website_id' => '0', 'group_id' => '0', 'name' => 'Admin', 'is_active' => '1'],
            'default' => ['store_id' => '1', 'code' => 'default', 'website_id' => '1', 'group_id' => '1', 'name' => 'English', 'is_active' => '1'],
            'en_usd' => ['store_id' => '3', 'code' => 'en_usd', 'website_id' => '2', 'group_id' => '2', 'name' => 'Overseas', 'is_active' => '1'],
            'de' => ['store_id' => '2', 'code' => 'de', 'website_id' => '1', 'group_id' => '1', 'name' => 'Deutsch', 'is_active' => '1'],
        ],
    ],
    'themes' => [
        'frontend/Shop/base' => ['parent_id' => null, 'theme_path' => 'Shop/base', 'theme_title' => 'Base', 'area' => 'frontend', 'code' => 'Shop/base'],
        'frontend/Shop/spring' => ['parent_id' => 'Shop/base', 'theme_path' => 'Shop/spring', 'theme_title' => 'Spring', 'area' => 'frontend', 'code' => 'Shop/spring'],
    ],
    'system' => [
        'default' => [
            'general' => ['locale' => ['code' => 'en_US'], 'store_information' => ['name' => 'Spring & Son']],
            'currency' => ['options' => ['base' => 'EUR']],
            'design' => ['theme' => ['theme_id' => 'frontend/Shop/spring']],
        ],
        'stores' => [
            'de' => ['general' => ['locale' => ['code' => 'de_DE']]],
            'en_usd' => ['currency' => ['options' => ['base' => 'USD']]],
        ],
    ],
];
