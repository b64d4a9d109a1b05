/**
 * The page itself is the same for everybody, so that it can be cached whole.
 * What is this visitor's own, the number of things in the cart, is asked for here.
 */
(function (script) {
    'use strict';

    var badge = document.querySelector('.cart-count');

    function show(count, dictionary) {
        function $t(phrase) {
            return dictionary[phrase] || phrase;
        }

        badge.textContent = count;
        badge.title = $t('%1 things in your cart').replace(/%1/g, count);
        badge.hidden = count === 0;
    }

    // a visitor without a session has no cart to ask for
    if (document.cookie.indexOf('private_content_version=') === -1) {
        return;
    }
    Promise.all([fetch(script.dataset.summary), fetch(script.dataset.dictionary)])
        .then(function (answers) {
            return Promise.all(answers.map(function (answer) { return answer.json(); }));
        })
        .then(function (values) { show(values[0].count, values[1]); })
        .catch(function () { badge.hidden = true; });
})(document.currentScript);
