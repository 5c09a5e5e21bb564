// A template for bases that know no tools, of records that use them.
#pragma once

namespace retort {

// ChatML: tools as JSON in the system message, calls and results between tags.
inline constexpr const char* kToolTemplate = R"({%- if tools or messages[0].role == 'system' %}
{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content }}{% endif %}
{%- if messages[0].role == 'system' and tools %}{{- '\n\n' }}{% endif %}
{%- if tools %}
{{- 'Tools:' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{% endfor %}
{{- '\nCall one as <tool_call>{"name": ..., "arguments": ...}</tool_call>.' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.content %}{{- message.content }}{% endif %}
{%- if message.tool_calls %}
{%- for call in message.tool_calls %}
{%- set wanted = call.function if call.function else call %}
{{- '<tool_call>{"name": "' + wanted.name + '", "arguments": ' }}
{%- if wanted.arguments is string %}{{- wanted.arguments }}
{%- else %}{{- wanted.arguments | tojson }}{% endif %}
{{- '}</tool_call>' }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %})";

}  // namespace retort
