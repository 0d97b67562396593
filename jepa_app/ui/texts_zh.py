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

MATCH_PICTURE_LABEL = "图片"
CAPTIONS_LABEL = "描述，每行一条（最多 20 条，英文）"
CAPTIONS_PLACEHOLDER = "例如：\nred apple\ngreen apple\ntomato"
MATCH_RUN = "为描述排序"
MATCH_HELP = (
    "**如何解读。** TI-JEPA 在网络内部由描述预测图片，也由图片预测描述。“能量”是预测后剩余的误差，"
    "减去没有另一方时的误差：**越低越好**，低于零说明描述有助于预测图片。进度条把能量换算成“概率”，"
    "即描述与图片相符的可能性，以图片配上其他图片的描述作为对照测得。模型只见过表情符号，"
    "用于照片时结果仅供参考。图片若不是正方形，只看中央的正方形部分。"
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
    "subtitle": "看图片逐个 token 被预测出来。",
    "mode": "切换浅色与深色",
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
    "running": "第 {step} 步，共 {total} 步",
    "finished": "完成，用时 {seconds} 秒",
    "stopped": "已停在第 {step} 步（共 {total} 步），保留当前图片",
    "kept": "来自历史记录；重新运行即可查看各步",
    "place": "第 {step} 步，共 {total} 步",
    "alt": "“{prompt}”的图片，{place}",
    "tokens": "新增 {fresh} 个，已知 {known} / {all} 个 token",
}

RECALL = {
    "from_picture": "从图片读取设置",
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
    "fits_very_well": "非常匹配",
    "fits_well": "匹配",
    "may_fit": "可能匹配",
    "probably_not": "可能不匹配",
    "does_not_fit": "不匹配",
}
