// Minified from src/ by build.mjs.
var a=1;export{a as x};
