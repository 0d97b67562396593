"""The words of the page in simplified Chinese: the names and keys of texts.py.

Terms: token stays token; prompt 提示词, seed 随机种子, steps 步数, guidance 引导强度, temperature 温度,
unmasking 去掩码, energy 能量, caption 描述. Prompts and captions stay English: that is what the text encoder reads.
"""

GENERATE_TAB = "生成"
COMPARE_TAB = "对比"
MATCH_TAB = "匹配"

PROMPT_LABEL = "想要什么样的图片？（请用英文描述）"
PROMPT_PLACEHOLDER = "例如：red apple, noto style"
RUN = "生成"
STOP = "停止"
STYLE_LABEL = "风格"
STYLE_ANY = "不限"
EXAMPLES_LABEL = "试试这些"
SEED_LABEL = "随机种子"
SEED_PLACEHOLDER = "随机"
DICE = "🎲 随机"
STEPS_LABEL = "步数"
STEPS_INFO = "步数越多，每步预测的 token 越少。"
GUIDANCE_LABEL = "引导强度"
GUIDANCE_INFO = "越高越贴近提示词。"
TEMPERATURE_LABEL = "温度"
TEMPERATURE_INFO = "越低越稳定，变化越少。"
NEGATIVE_HEAD = "反向提示词"
NEGATIVE_LABEL = "不希望出现的内容"
NEGATIVE_PLACEHOLDER = "例如：blue, square"

COMPARE_PROMPT_LABEL = "提示词"
COMPARE_COLUMNS_LABEL = "列"
COMPARE_ROWS_LABEL = "行"
COMPARE_VALUES_LABEL = "取值"
COMPARE_VALUES = "提示词每行一个，其他值用英文逗号分隔；种子和步数可写成范围，如 1-4。"
COMPARE_SETTINGS = "所有图片的共同设置"
COMPARE_RUN = "生成网格"
COMPARE_HELP = (
    "生成顺序和噪声都由随机种子决定，所以相邻图片之间只有行或列所改变的那一项不同。"
    "所有图片共用网络的前向计算，九张图的耗时远少于单张的九倍。最多 36 张。"
)

MATCH_ONE_TAB = "单张图片"
MATCH_MANY_TAB = "批量图片"
MATCH_PICTURE_LABEL = "图片"
CAPTIONS_LABEL = "描述，每行一条（最多 20 条，英文）"
CAPTIONS_PLACEHOLDER = "例如：\nred apple\ngreen apple\ntomato"
MATCH_RUN = "为描述排序"
MATCH_HELP = (
    "**如何解读。** TI-JEPA 在网络内部由描述预测图片，也由图片预测描述。*能量*是预测后剩余的误差，"
    "减去没有另一方时的误差：**越低越好**，低于零说明描述有助于预测图片。进度条把能量换算成*概率*，"
    "即描述与图片相符的可能性，以图片配上其他图片的描述作为对照测得。*正确配对*是模型从未学过的图片"
    "与各自的描述，*错误配对*是同一批图片与彼此的描述。模型只见过表情符号，"
    "用于照片时结果仅供参考。图片若不是正方形，只看中央的正方形部分。"
)

MANY_FILES_LABEL = "图片、ZIP 压缩包和表格"
MANY_CAPTIONS_LABEL = "描述，每行一条（英文）"
MANY_CAPTIONS_PLACEHOLDER = "例如：\nred apple\ngreen apple\ntomato"
MANY_QUICK_LABEL = "先快速筛选"
MANY_QUICK_INFO = (
    "达到 10,000 个配对时生效：先用能量中计算很快的两部分比较所有配对，再只为每张图片最好的 20 条描述计算完整能量。"
)
MANY_RUN = "为所有配对打分"
MANY_HELP = (
    "每张图片都会与每条描述打分，两者最多各 1,000。压缩包里可以有图片、写有描述的文本文件和表格。"
    "表格（CSV）含 *picture* 和 *caption* 两列，说明哪些图片与描述是一对，这样还能得知正确描述排在首位的比例。"
    "无法读取的内容会逐一列出，其余照常打分。"
)

AXES = {
    "prompt": "提示词",
    "style": "风格",
    "seed": "随机种子",
    "steps": "步数",
    "guidance": "引导强度",
    "temperature": "温度",
    "none": "无",
}

HEADER = {
    "title": "JEPA studio",
    "subtitle": "看图片如何一个个 token 地被预测出来。",
    "mode": "切换浅色与深色",
}

FITS = {
    "fits_very_well": "非常匹配",
    "fits_well": "匹配",
    "may_fit": "可能匹配",
    "probably_not": "可能不匹配",
    "does_not_fit": "不匹配",
}

PLAYER = {
    "player": "播放器：空格键播放，方向键逐步查看，m 键切换视图",
    "invitation_title": "图片将显示在这里",
    "invitation": "每个方块是一个 token。模型按随机顺序，每次预测其中几个。",
    "play": "播放各步",
    "pause": "暂停",
    "timeline": "生成的步骤",
    "view": "视图",
    "view_picture": "图片",
    "view_unmasking": "去掩码",
    "view_order": "顺序",
    "view_predicted": "预测",
    "energy": "能量",
    "fit": "与提示词的匹配：{words}，{percent}%（能量 {energy}，越低越好）",
    "go_on": "从第 {step} 步继续",
    "redo": "重做局部",
    "paint_help": "涂抹要按输入框中的提示词重新生成的部分，其边缘也会随之改变。",
    "paint_keys": "方向键移动，空格键标记，回车键开始，Esc 键退出。",
    "paint_go": "重做 {count} 个 token",
    "paint_room": "在四周留白",
    "paint_clear": "清除",
    "paint_leave": "退出",
    "tile_marked": "第 {row} 行第 {column} 列，已标记",
    "tile_free": "第 {row} 行第 {column} 列，未标记",
    "speed": "速度",
    "legend_first": "最先",
    "legend_last": "最后",
    "to_match": "匹配这张图片",
    "reuse": "沿用种子",
    "download": "下载",
    "export": "导出",
    "export_webp": "动画（WebP）",
    "export_gif": "动画（GIF）",
    "export_mp4": "视频（MP4）",
    "export_json": "生成记录（JSON）",
    "export_png": "当前步骤（PNG）",
    "keep_settings": "在 PNG 中保存设置",
    "exporting": "正在写入文件",
    "exported": "已保存为 {name}",
    "unreachable": "无法连接服务器，请稍后再试",
    "waiting": "正在等待模型",
    "queued": "排队中：前面还有 {ahead} 个",
    "queued_for": "排队中：前面还有 {ahead} 个，约 {seconds} 秒",
    "coming_back": "连接中断，即将继续",
    "welcome_back": "这是您上次的生成",
    "alt_begin": "起始图片",
    "running": "第 {step} 步，共 {total} 步",
    "finished": "完成，用时 {seconds} 秒",
    "stopped": "已停在第 {step} 步（共 {total} 步），保留当前图片",
    "from_history": "来自历史记录",
    "kept": "来自历史记录；重新运行即可查看各步",
    "place": "第 {step} 步，共 {total} 步",
    "alt": "“{prompt}”的图片，{place}",
    "tokens": "新增 {fresh} 个，已知 {known} / {all} 个 token",
} | FITS

RECALL = {
    "from_picture": "从图片读取设置",
    "begin_with": "从图片开始",
    "begun": "{name} 已放上画面；请涂抹要重新生成的部分",
    "copy_link": "复制链接",
    "filled": "已填入 {name} 的设置",
    "too_large": "{name} 超过 {most} MB",
    "link_copied": "已复制包含这些设置的链接",
    "link_in_address": "这些设置已写入页面地址，请从地址栏复制",
    "link_opened": "已填入链接中的设置，点击“生成”即可运行",
    "link_partly": "链接中的这些内容未采用：{names}",
    "unreachable": "无法连接服务器，请稍后再试",
}

HISTORY = {
    "history": "最近的图片，只保存在本浏览器中",
    "history_clear": "清空",
    "history_item": "显示“{prompt}”，种子 {seed}，并恢复其设置",
}

COMPARE = AXES | {
    "empty": "选择各列和各行改变什么。除非某一轴改变随机种子，所有图片都用同一个种子，因此只会看到这项改变带来的差别。",
    "region": "图片网格",
    "as_picture": "下载为图片",
    "as_csv": "下载为 CSV",
    "making": "正在生成 {count} 张图片",
    "finished": "{count} 张图片已完成",
    "axis_value": "{axis} {value}",
    "alt": "“{prompt}”的图片，{changes}，第 {step} 步，共 {total} 步",
    "comma": "，",
}

RANKING = {
    "empty": "给出一张图片和几条描述，它们会按匹配程度排列在这里。",
    "facts": "概率 {percent}%  ·  能量 {energy}",
    "typical": "优于 {wrong}% 的错误配对，与一般的正确配对相当",
    "strong": "优于 {wrong}% 的错误配对，也优于 {right}% 的正确配对",
    "weak": "优于 {wrong}% 的错误配对；有 {others}% 的正确配对比它更匹配",
    "choose": "点选一条描述，查看原因。",
} | FITS

WHY = {
    "why": "匹配的原因：词语与图片的各个部分",
    "title": "词语对图片的作用",
    "asking": "正在逐一去掉每个词来比较",
    "unreachable": "无法连接服务器，请稍后再试",
    "alt": "模型看到的图片",
    "patches": "图片的各个部分：方向键移动，回车键选择，退出键返回整条描述",
    "chips": "描述中的词语",
    "whole": "整条描述",
    "hinders": "误导",
    "helps": "有帮助",
    "legend": "颜色表示词语消除了多少误差：误差越小，能量越低，也就越好。最深的绿色代表 {percent}%。",
    "say_whole": "有了描述，图片的 {all} 个部分中有 {count} 个更容易预测；其中{place}最明显，误差减少 {percent}%。"
    "最重要的词是“{word}”。",
    "say_nothing": "这条描述没有让图片的任何部分更容易预测。最重要的词是“{word}”。",
    "say_word": "“{word}”对{place}的帮助最大，消除了那里 {percent}% 的误差。",
    "say_idle": "“{word}”没有让图片的任何部分更容易预测。",
    "say_match": "去掉这个词，匹配概率会从 {percent}% 变为 {without}%。",
    "say_patch": "{place}：描述消除了 {percent}% 的误差，其中“{word}”贡献最大。",
    "say_patch_worse": "{place}：描述使误差增大 {percent}%，其中“{word}”的帮助最大。",
    "place": "第 {row} 行第 {column} 列",
    "place_first": "第 {row} 行第 {column} 列",
    "patch_less": "{place}：有描述时误差减少 {percent}%，主要靠“{word}”",
    "patch_more": "{place}：有描述时误差增大 {percent}%",
    "list_match": "如果去掉描述中的一个词（现在的概率为 {percent}%）",
    "list_patch": "各个词对{place}的作用",
    "worse": "概率 {percent}%，能量升高 {energy}：变差",
    "better": "概率 {percent}%，能量降低 {energy}：变好",
    "takes": "消除 {percent}% 的误差：有帮助",
    "adds": "增加 {percent}% 的误差：误导",
}

MANY = {
    "empty": "请添加图片和描述。每张图片都会与每条描述打分，表格逐行填入。",
    "region": "匹配表格",
    "reading": "正在读取第 {done} 个文件，共 {total} 个",
    "scoring": "已为 {done} / {total} 张图片打分",
    "stopped": "已停止：{total} 张图片中已打分 {done} 张，结果保留",
    "finished": "{pictures} 张图片与 {captions} 条描述已打分",
    "progress": "进度",
    "left_out": "{count} 项未采用，其余照常打分",
    "as_csv": "下载为 CSV",
    "sort": "图片的顺序",
    "sort_given": "原来的顺序",
    "sort_best": "最匹配的在前",
    "sort_doubtful": "最可疑的配对在前",
    "sort_caption": "按表中选定的描述",
    "by_caption": "按“{caption}”排列图片",
    "picture": "图片",
    "shown": "表格显示 {pictures} 张图片中的 {rows} 张、{captions} 条描述中的 {columns} 条；CSV 包含全部。",
    "recall": "{count} 张图片中，正确描述排在首位的占 {first}%，排在前五的占 {five}%。",
    "recall_back": "{count} 条描述中，正确图片排在首位的占 {first}%，排在前五的占 {five}%。",
    "quick": "表格较大：只为每张图片快速筛选出的 {best} 条最佳描述计算了完整能量，其余以圆点表示。",
    "legend": "数字是图片与描述相符的概率（%）。带圈的是您表格中的配对。",
    "cell": "{caption}：概率 {percent}%，能量 {energy}（越低越好）",
}
