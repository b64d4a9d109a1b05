/* What every page does: pictures that are not there make room for the theme's placeholder. */
(function () {
    'use strict';

    var pictures = document.querySelectorAll('.product img, .product-view img');

    Array.prototype.forEach.call(pictures, function (picture) {
        function missing() {
            picture.classList.add('missing'); // the theme draws it
            picture.removeAttribute('src');
        }

        picture.addEventListener('error', missing);
        if (picture.complete && picture.naturalWidth === 0) {
            missing();
        }
    });
})();
