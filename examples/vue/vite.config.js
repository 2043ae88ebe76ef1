import vue from "@vitejs/plugin-vue";

const isCustomElement = (tag) => tag === "viral-toast";

export default { plugins: [vue({ template: { compilerOptions: { isCustomElement } } })] };
