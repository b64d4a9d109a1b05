<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

/** Answers one kind of address. */
interface Controller
{
    /** null when the address is not one of its own after all */
    public function answer(Request $request, Page $page): ?Response;
}
