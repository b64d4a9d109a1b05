// the colours that a class may name
export default { leaf: "#2f6d45", sand: "#efe6d5" };
