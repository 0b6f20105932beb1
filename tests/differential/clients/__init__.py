"""Programs that people use with vLLM, each as a script that uses one against a server and tells whether it went well."""
