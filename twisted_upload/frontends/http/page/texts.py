"""
The texts of the page, in each of its languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["LANGUAGES", "language_for"]

_ENGLISH = {
    "title": "Upload files",
    "choose": "Choose files",
    "choose_folder": "Choose a folder",
    "take_photo": "Take a photo",
    "hint": "or drop them anywhere on this page, or paste",
    "send": "Upload",
    "waiting": "waiting",
    "sending": "sending",
    "storing": "sent; waiting until it is stored",
    "progress": "{percent} % · {sent} · {rate}/s · {left} left",
    "paused": "paused",
    "broken": "{reason}; next try in {seconds} s",
    "stored": "stored",
    "cancelled": "cancelled",
    "failed": "failed",
    "copied": "copied",
    "pause": "Pause",
    "resume": "Resume",
    "retry": "Retry",
    "cancel": "Cancel",
    "copy": "Copy name and SHA-256",
    "summary": "{stored} of {all} stored",
    "summary failed": "{stored} of {all} stored, {failed} failed",
    "unfinished": "Not finished: {names}. Choose the same files again to continue.",
    "no connection": "no connection to the server",
    "status": "the server answered {status}",
    "code too-large": "too large for this server",
    "code no-space": "the server has no space left; try again later",
    "code unauthorized": "this link or token is not valid; ask for a new one",
    "code not-allowed": "you are not allowed to upload here",
    "code busy": "the server is busy",
    "code shutting-down": "the server is restarting",
    "code store-error": "the server could not store it",
    "results": "Result",
    "again": "Upload more files",
    "is_stored": "stored as {name} ({size})",
    "is_refused": "not stored: {reason}",
}

_CHINESE = {
    "title": "上传文件",
    "choose": "选择文件",
    "choose_folder": "选择文件夹",
    "take_photo": "拍照",
    "hint": "也可以把文件拖到页面任意位置,或直接粘贴",
    "send": "上传",
    "waiting": "等待中",
    "sending": "正在上传",
    "storing": "已发送,正在等待保存",
    "progress": "{percent}% · {sent} · {rate}/秒 · 剩余 {left}",
    "paused": "已暂停",
    "broken": "{reason};{seconds} 秒后重试",
    "stored": "上传成功",
    "cancelled": "已取消",
    "failed": "上传失败",
    "copied": "已复制",
    "pause": "暂停",
    "resume": "继续",
    "retry": "重试",
    "cancel": "取消",
    "copy": "复制文件名和 SHA-256",
    "summary": "共 {all} 个,成功 {stored} 个",
    "summary failed": "共 {all} 个,成功 {stored} 个,失败 {failed} 个",
    "unfinished": "尚未完成:{names}。重新选择相同的文件即可从中断处继续。",
    "no connection": "无法连接服务器",
    "status": "服务器返回 {status}",
    "code too-large": "文件超过服务器允许的大小",
    "code no-space": "服务器空间不足,请稍后再试",
    "code unauthorized": "链接或令牌无效,请重新获取",
    "code not-allowed": "您无权在此上传",
    "code busy": "服务器繁忙",
    "code shutting-down": "服务器正在重启",
    "code store-error": "服务器未能保存文件",
    "results": "结果",
    "again": "继续上传",
    "is_stored": "上传成功:{name}({size})",
    "is_refused": "上传失败:{reason}",
}

LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": _ENGLISH, "zh": _CHINESE}
"""The texts by language; the first language is for everyone who wants none of them."""

_LONGEST = 1000
_RANGE = re.compile(r"([a-zA-Z]{1,8}|\*)(?:-[a-zA-Z0-9-]*)?(?:\s*;\s*q=([01](?:\.[0-9]{0,3})?))?\Z")


def language_for(accepted: str) -> str:
    """
    Return the language for a reader.

    :param accepted: the value of ``Accept-Language``: RFC 9110, section 12.5.4.
    """
    best, language = 0.0, next(iter(LANGUAGES))
    for entry in accepted[:_LONGEST].split(","):
        found = _RANGE.match(entry.strip())
        if found is None:
            continue
        name, quality = found[1].lower(), float(found[2] or 1)
        if name in LANGUAGES and quality > best:
            best, language = quality, name
    return language
